"""Many photographs: finding them, painting them side by side with reading and writing, and the report."""
