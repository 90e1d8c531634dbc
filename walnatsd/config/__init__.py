"""From the config file and the environment to the model."""
