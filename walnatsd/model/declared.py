"""What all declarations have in common.

The validation context may hold `base_dir`, the folder that paths are relative to, and two functions that raise ValueError
where something can't be read: `see_file` is given paths, `see_secret` secrets. Without them nothing is looked at.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator


def _resolve(path: str, info: ValidationInfo) -> str:
    """Make a path absolute if the validation context names the folder that it is relative to."""
    base = (info.context or {}).get("base_dir")
    return str(Path(base, path)) if base is not None else path


def _look(path: str, info: ValidationInfo) -> str:
    """Let the validation context see whether the file can be read."""
    see_file = (info.context or {}).get("see_file")
    if see_file is not None:
        see_file(path)
    return path


RelativePath = Annotated[str, AfterValidator(_resolve)]
"""A path, relative to the config file."""

InputFile = Annotated[RelativePath, AfterValidator(_look)]
"""A path of a file that is read, relative to the config file."""


class Declared(BaseModel):
    """A part of the config file: immutable, without unknown keys, documented by the docstrings of its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Secret(Declared):
    """Where a secret comes from; the secret itself never stands in a file or in a registration."""

    env: str | None = None
    """Name of an environment variable."""
    file: RelativePath | None = None
    """Path of a file; surrounding white space is not part of the secret."""

    @model_validator(mode="after")
    def _one_source(self, info: ValidationInfo) -> "Secret":
        if (self.env is None) == (self.file is None):
            raise ValueError("give either {env: NAME} or {file: PATH}")
        see_secret = (info.context or {}).get("see_secret")
        if see_secret is not None:
            see_secret(self)
        return self


def _refuse_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("write a whole number")  # noqa: TRY004 - pydantic takes ValueError
    return value


NoBoolean = BeforeValidator(_refuse_boolean)
"""Marks a whole number; `true` is none, although Python takes it for 1."""

PositiveInt = Annotated[int, Field(gt=0, lt=1 << 63), NoBoolean]
