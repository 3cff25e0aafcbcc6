"""Queues on one PostgreSQL (and Celery's on Redis): ours, our peers' and a floor, told alike."""
