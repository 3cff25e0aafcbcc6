"""Payday: a company pays its suppliers' invoices, once each, whatever fails on the way."""
