"""Serving models over HTTP: scans in, masks out; the Open Inference Protocol; a page to look at scans."""
