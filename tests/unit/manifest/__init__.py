"""Manifests: from the text to admitted containers."""
