"""The actions of the product as tools of the Model Context Protocol."""
