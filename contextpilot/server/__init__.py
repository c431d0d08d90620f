"""The HTTP server: index API, OpenAI- and Anthropic-compatible proxy, metrics.

from contextpilot.server.app import create_app
from contextpilot.server.settings import Settings

app = create_app(Settings(engine=("http://127.0.0.1:30000",)))
"""
