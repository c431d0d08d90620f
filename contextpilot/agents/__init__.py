"""Agents behind a proxy of their own: started with it, watched, and told what was saved."""
