"""Towards the cloud: its commands and wishes in, jobs and what is reported out."""
