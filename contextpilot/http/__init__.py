"""All that speaks HTTP to others: a blocking client, a pooled one, a circuit; one rule for each."""
