"""The interpreter held against another one, that of moto (which is LocalStack's), on the project's own state machines."""
