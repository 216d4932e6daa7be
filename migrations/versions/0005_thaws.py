"""Jobs on their way out of an archive, and what a take's codes need to become sound again"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PENDING = sa.text("state = 'pending'")


def upgrade() -> None:
    op.add_column("takes", sa.Column("recipe", sa.JSON(), nullable=True))
    op.create_table(
        "thaws",
        sa.Column("id", IDENTITY, nullable=False),
        sa.Column("job_id", IDENTITY, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("days", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.Column("looked_at", sa.Double(), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("until", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_thaws_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_thaws")),
        sa.UniqueConstraint("job_id", name=op.f("uq_thaws_job_id")),
    )
    op.create_index("ix_thaws_pending", "thaws", ["looked_at"], postgresql_where=PENDING, sqlite_where=PENDING)


def downgrade() -> None:
    op.drop_table("thaws")
    op.drop_column("takes", "recipe")
