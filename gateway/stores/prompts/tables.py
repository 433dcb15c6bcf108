"""The tables of kept prompts and of labels, in words that SQLite and PostgreSQL understand alike. Opens nothing."""

from __future__ import annotations

NAME = "prompts"
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE prompt_sample (
            at_us BIGINT NOT NULL,
            id TEXT NOT NULL,
            text TEXT NOT NULL,
            size BIGINT NOT NULL,
            predicted TEXT,
            confidence DOUBLE PRECISION,
            margin DOUBLE PRECISION,
            out_of_domain DOUBLE PRECISION,
            chosen TEXT,
            reason TEXT,
            by_chance BIGINT NOT NULL,
            by_low_margin BIGINT NOT NULL,
            by_out_of_domain BIGINT NOT NULL,
            by_thumbs_down BIGINT NOT NULL,
            PRIMARY KEY (at_us, id)
        )""",
        "CREATE INDEX prompt_sample_id ON prompt_sample (id)",
        """CREATE TABLE domain_label (
            at_us BIGINT NOT NULL,
            id TEXT NOT NULL,
            predicted TEXT,
            confidence DOUBLE PRECISION,
            label TEXT NOT NULL,
            by_chance BIGINT NOT NULL,
            who TEXT NOT NULL,
            labelled_us BIGINT NOT NULL,
            PRIMARY KEY (at_us, id)
        )""",
        "CREATE INDEX domain_label_when ON domain_label (labelled_us)",
    ),
)
