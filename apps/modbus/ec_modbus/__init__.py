"""Driver APP: reads Modbus TCP devices into points and writes points into registers."""
