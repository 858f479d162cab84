"""Instances of APPs: the decisions about them, what a release becomes here, and what brings a version to be the wanted one."""
