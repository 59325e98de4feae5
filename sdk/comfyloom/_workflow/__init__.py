"""Workflows as data: classes, inputs, outputs, graphs, node schemas, file formats."""
