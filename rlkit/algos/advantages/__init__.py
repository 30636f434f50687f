"""Advantage estimators, one file each: rewards in, advantages (and for a critic returns) out."""
