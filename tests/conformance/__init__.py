"""Compare the interpreter with moto's (from LocalStack) on the project's state machines."""
