"""The lab itself is tested: a witness that sees nothing would prove everything."""
