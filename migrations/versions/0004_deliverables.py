"""Several files of one job, their level, and long programmes encoded in stretches"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

IDENTITY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("deliverables", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("level", sa.JSON(), nullable=True))
    op.create_table(
        "reels",
        sa.Column("job_id", IDENTITY, nullable=False),
        sa.Column("deliverable", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("reel_key", sa.Text(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("is_done", sa.Boolean(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reels_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "deliverable", "position", name=op.f("pk_reels")),
    )


def downgrade() -> None:
    op.drop_table("reels")
    op.drop_column("jobs", "level")
    op.drop_column("jobs", "deliverables")
