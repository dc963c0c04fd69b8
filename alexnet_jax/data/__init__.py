"""Any source to square records, records to batches; the home of tfds, grain and tf."""
