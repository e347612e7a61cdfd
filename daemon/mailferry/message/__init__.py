"""The octets of a message: line ends, header scan, digests, trace fields, summary."""
