"""Stages: one file each."""
