"""Asking engines for answers."""
