"""Tables, figures, claims and the page that shows them: made from records and nothing else."""
