"""Data: any source to square records, records to batches; tfds, grain and tf live here."""
