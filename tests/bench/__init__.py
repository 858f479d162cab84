"""Measurements on real parts. They print and write figures; they assert nothing about speed."""
