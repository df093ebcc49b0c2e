"""The folder that is the database: log format, writer, reader, blobs."""
