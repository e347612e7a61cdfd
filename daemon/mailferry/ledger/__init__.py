"""The state store on SQLAlchemy Core, its receipt journal and its migrations."""
