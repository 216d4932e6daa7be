"""The secrets that sign webhooks, as Standard Webhooks writes them: `whsec_` and the base64 of random bytes."""

import secrets
from base64 import b64encode
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

PREFIX = "whsec_"
BYTES = 32  # the standard asks for 24 to 64


def new() -> SecretStr:
    """A fresh one."""
    return SecretStr(PREFIX + b64encode(secrets.token_bytes(BYTES)).decode())


class SecretText(sa.TypeDecorator[SecretStr]):
    """A column of secrets, masked wherever they are shown. They are kept as they are: who sends must be able to sign."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: SecretStr | None, dialect: sa.Dialect) -> str | None:
        """On the way in."""
        return None if value is None else _Quiet(value.get_secret_value())

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> SecretStr | None:
        """On the way out."""
        return None if value is None else SecretStr(value)


class _Quiet(str):
    """A string that is not seen among the parameters of a failed statement."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{PREFIX}**********'"
