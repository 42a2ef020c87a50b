"""Shared by both apps over HTTP: errors, authentication, health, rate limits, OpenAPI, and the gunicorn worker."""
