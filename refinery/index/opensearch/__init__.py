"""`SampleIndex` on OpenSearch."""
