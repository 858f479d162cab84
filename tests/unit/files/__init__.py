"""The files of technicians."""
