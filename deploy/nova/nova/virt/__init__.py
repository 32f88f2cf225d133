# Nova's own package of this name is found whichever of the two comes first on sys.path.
__import__('pkg_resources').declare_namespace(__name__)
