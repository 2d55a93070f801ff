"""Allowances: whole-numbered amounts of many accounts, debited durably before they are used."""
