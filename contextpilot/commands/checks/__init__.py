"""What `contextpilot doctor` looks at; each check yields results and changes nothing."""
