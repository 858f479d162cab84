"""One module a campaign; see tests/faults/campaign.py."""
