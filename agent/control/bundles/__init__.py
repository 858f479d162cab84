"""Offline bundles: imported by command, fetched by reference, taken from watched folders."""
