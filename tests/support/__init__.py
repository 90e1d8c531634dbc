"""Real parts for the tests: servers, daemons, receivers."""
