import pytest

from tests import receivers


@pytest.fixture
def receiver():
    with receivers.Receiver() as receiver:
        yield receiver
