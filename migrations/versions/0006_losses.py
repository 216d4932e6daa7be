"""Batches that are rendered alone, segments whose workers vanished, takes that are gone from the store"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("segments", sa.Column("losses", sa.SmallInteger(), server_default="0", nullable=False))
    op.add_column("takes", sa.Column("gone", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("batches", sa.Column("suspect", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_column("batches", "suspect")
    op.drop_column("takes", "gone")
    op.drop_column("segments", "losses")
