"""The engines behind the server: who takes a request, when, and what each holds."""
