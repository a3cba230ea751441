"""The only code that touches durable files: layout, publishing, digests, receipts, pointers, locks."""
