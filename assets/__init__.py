"""The Dagster code location: thin assets over `refinery`, and what runs them. Definitions are in `assets.definitions`."""
