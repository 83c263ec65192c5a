//! A disk in memory that may lose, tear and reorder whatever was not synced.
