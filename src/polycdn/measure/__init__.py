"""The world, looked at from outside: schedules, HTTP and DNS looks, and the signed reports of a vantage."""
