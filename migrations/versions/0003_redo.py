"""Sentences rendered again on request, and what a corpus took"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("segments", sa.Column("seed", sa.BigInteger(), nullable=True))
    op.add_column("segments", sa.Column("redone", sa.SmallInteger(), server_default="0", nullable=False))
    op.add_column("corpora", sa.Column("worker_seconds", sa.Double(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("corpora", "worker_seconds")
    op.drop_column("segments", "redone")
    op.drop_column("segments", "seed")
