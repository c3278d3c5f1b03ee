"""What the service is made of: a bill of its components (CycloneDX), and whether their licences are expected ones."""
