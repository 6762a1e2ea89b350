"""The judge: protocols, metrics, records, tables and the report."""
