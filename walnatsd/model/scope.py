"""What a token opens."""

from typing import Literal

Scope = Literal["emit", "act", "admin"]
