"""From settings to objects, part by part, for the composition root (`mailferry.app`) and for commands."""
