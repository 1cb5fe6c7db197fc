"""Learns representations from data without labels, and proves what it learned."""
