"""HTTP as values: requests, fields, targets, entity-tags and heads. No reactor, no clock."""
