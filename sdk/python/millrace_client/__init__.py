"""Client library of Millrace."""
